"""Exit with 0 when the service in this container is ready, with 1 when it is not. The image has no curl."""

import os
import sys
import urllib.request

port = os.environ.get("BEBR_PROBE_PORT", "0")
url = f"http://127.0.0.1:{os.environ.get('BEBR_PORT', '8000') if port == '0' else port}/readyz"
try:
    # urlopen raises for 503, a refused connection and a timeout alike: all of them are an OSError.
    urllib.request.urlopen(url, timeout=3).close()
except OSError as error:
    sys.exit(f"{url}: {error}")
