"""What a run takes before it is started: memory, time, money, disks; from a laptop."""
