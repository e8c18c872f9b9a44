"""Stage two: train a student on images streamed with their cached teacher's logits."""
