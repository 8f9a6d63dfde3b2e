"""Emotion understanding: scenarios, judges, and their evaluation with and without gestures."""
