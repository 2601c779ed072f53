"""What tests share: polling, clocks, fakes."""
