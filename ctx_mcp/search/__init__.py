"""What a search finds, and how its pages are made: shared by the service and by clients of backends without one."""
