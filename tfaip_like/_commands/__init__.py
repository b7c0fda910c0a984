"""What commands do, without their command lines: functions of the Python interface."""
