"""What result rows say: means, intervals, differences, agreement, ranks."""
