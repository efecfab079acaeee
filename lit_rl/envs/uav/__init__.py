"""``uav_bs_v0``: UAVs as flying base stations, natively batched and as a PettingZoo ``ParallelEnv``."""
