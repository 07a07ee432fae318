"""What a test of a program that uses Reefknot, or of a part written for it, needs."""
