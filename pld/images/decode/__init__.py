"""From encoded bytes to RGB pixels: Pillow, libjpeg-turbo, and boxes of JPEGs."""
