"""What the finding of repeated key and value heads says, of a graph as of a scenario; nothing here needs torch."""

NAME = "repeat_kv"
TITLE = "key and value heads copied for every query head before they are multiplied"
REMEDY = (
    "fold each group of queries into the rows instead: q.reshape(batch, kv_heads, group * rows, head_dim) @ "
    "k.transpose(-1, -2), keys and values as they are, and the same with the values"
)
