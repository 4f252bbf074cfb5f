// All plugins of the scheduler, in the order they run. Cheap filters and those that refuse most come first.
// Weights are kube-scheduler's defaults (default_plugins.go).
import type { PluginTable } from './framework.ts';
import { imageLocality } from './plugins/image-locality.ts';
import { interPodAffinityFilter, interPodAffinityScore } from './plugins/inter-pod-affinity.ts';
import {
  nodeAffinityFilter,
  nodeAffinityScore,
  nodeName,
  nodeUnschedulable,
} from './plugins/node-placement.ts';
import { balancedAllocation, leastAllocated, nodePorts, nodeResourcesFit } from './plugins/resources.ts';
import { taintTolerationFilter, taintTolerationScore } from './plugins/taints.ts';
import { topologySpreadFilter, topologySpreadScore } from './plugins/topology-spread.ts';

export const PLUGINS: PluginTable = {
  filters: [
    nodeUnschedulable,
    nodeName,
    taintTolerationFilter,
    nodeAffinityFilter,
    nodePorts,
    nodeResourcesFit,
    topologySpreadFilter,
    interPodAffinityFilter,
  ],
  scores: [
    taintTolerationScore,
    nodeAffinityScore,
    topologySpreadScore,
    interPodAffinityScore,
    leastAllocated,
    balancedAllocation,
    imageLocality,
  ],
};
