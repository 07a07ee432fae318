"""What should happen next? Pure rules: no await, no clock, no input or output."""
