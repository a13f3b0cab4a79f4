"""What a process tells of itself: ids of calls, metrics, traces, logs. By default nothing but warnings."""
