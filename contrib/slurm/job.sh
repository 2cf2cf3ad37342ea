#!/bin/sh
# A job of Slurm that mounts for itself and unmounts at its end, also when it is cancelled:
#
#   sbatch contrib/slurm/job.sh
#
# Each task cuts a window out of one image. Change the last command; docs/environments.md says more.
#SBATCH --nodes=1 --ntasks=2 --time=00:10:00 --output=%x-%j.out
set -eu
storage=${TMPDIR:-/tmp}/up42-$SLURM_JOB_ID
mkdir -p "$storage"
trap 'up42fs unmount "$storage"; rmdir "$storage"' EXIT
trap 'exit 143' TERM
# Jobs of one user on one node share these bytes. Use a disk of the node, not a network file system.
up42fs mount --wait listed -o cache_dir="${SCRATCH:-/tmp}/up42-$(id -un)",cache_size=50G "$storage"
export storage
srun sh -c 'gdal_translate -q -srcwin $((SLURM_PROCID * 256)) 0 256 256 \
    "$storage/assets/elevation_berlin.tif" "$SLURM_SUBMIT_DIR/window-$SLURM_PROCID.tif"' &
# A shell runs its trap once the command that it waits for has ended: `wait` ends at once.
wait $!
