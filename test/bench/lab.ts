// lab/up-3: `podwire up` with three nodes to the first answer through the Service, warm (packages, build, images there).
// The peer is k3d's published time to a DNS answer (minikube docs, timeToK8s v1.36.0): it cannot run here.
import { LabDirectory } from '../harness/lab.ts';
import type { Report } from './main.ts';

const K3D_PUBLISHED_SECONDS = 19.9;
const RUNS = 5;

export async function bench(report: Report): Promise<void> {
  const labs = new LabDirectory();
  const seconds: number[] = [];
  try {
    // The first run builds the image template; it is not counted.
    for (let run = 0; run <= RUNS; run++) {
      const result = await labs.up('bench', '--nodes', '3');
      await labs.podwire(['down', '--name', 'bench']);
      if (run === 0) continue;
      seconds.push(result.firstAnswerSeconds);
      const phases = result.phases.map(phase => `${phase.name} ${phase.seconds.toFixed(2)}`).join(', ');
      console.log(`# run ${run}: ${result.firstAnswerSeconds.toFixed(2)} s to the first answer (${phases})`);
    }
  } finally {
    await labs.remove();
  }
  const median = seconds.sort((a, b) => a - b)[Math.floor(seconds.length / 2)]!;
  const note = 'peer: k3d as published (another machine), minikube 50.8, kind 33.0';
  report({ name: 'lab/up-3', ours: median, peer: K3D_PUBLISHED_SECONDS, unit: 's', note });
}
