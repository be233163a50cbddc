"""Settings of a network so small that a step takes no time."""

TINY_MODEL = (
    "model.width=16",
    "model.attention_heads=2",
    "model.feed_forward=32",
    "model.layers=2",
    "model.pair_channels=8",
)
