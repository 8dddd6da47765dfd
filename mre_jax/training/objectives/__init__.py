"""What a run minimises: functions of the trained parameters and a batch."""
