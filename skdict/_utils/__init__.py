"""What every floor uses; without torch."""
