// `podwire images`: writes the images of the examples as one archive, for nodes that run their own containerd.
import { readFileSync, writeFileSync } from 'node:fs';
import { Command } from 'commander';

export function imagesCommand(): Command {
  return new Command('images')
    .description(
      "write the examples' container images as one archive, for 'ctr --namespace k8s.io images import'",
    )
    .requiredOption('--output <file>', 'the archive')
    .option('--busybox <file>', "Debian's static busybox", '/bin/busybox')
    .action(async (flags: { output: string; busybox: string }) => {
      const { buildLabImages, HELLO_IMAGE, PAUSE_IMAGE } = await import('../lab/images.ts');
      writeFileSync(flags.output, buildLabImages(readFileSync(flags.busybox)));
      console.log(`${flags.output}: ${PAUSE_IMAGE}, ${HELLO_IMAGE}`);
    });
}
