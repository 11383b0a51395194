namespace mpishards {}
