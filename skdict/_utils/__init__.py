"""What every floor uses; without torch and scikit-learn."""
