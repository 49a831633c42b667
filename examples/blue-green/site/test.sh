#!/bin/sh -e
# Tests the site, in a container of its image: it serves its page, and the page says which version it is.
httpd -p 8000
wget -q -O - http://127.0.0.1:8000/ | grep '^site, version '
