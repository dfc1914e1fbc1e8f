-- Runs once, on an empty data folder, after the image has made the user: every service makes its own database.
GRANT ALL PRIVILEGES ON `shop\_%`.* TO 'shop'@'%';
