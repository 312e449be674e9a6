"""The training pipeline: distilled reasoning traces, SFT, RL. Not part of this version yet."""
