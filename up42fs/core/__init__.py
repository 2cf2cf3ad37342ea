"""Pure decisions: no await, no I/O, no clock, no logging. Time and chance come in as arguments."""
