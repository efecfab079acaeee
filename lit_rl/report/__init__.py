"""Reports, status and paper figures, made from the files of runs. Loads neither torch nor Lightning."""
