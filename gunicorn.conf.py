"""What holds for every start of the web server: gunicorn reads this in the folder that it is started in."""

# Bytes, and gunicorn's most: files are named in the query, where each byte of a path may take three.
limit_request_line = 8190
