"""The console of regions that have networks of their own: it listens out here and asks in there."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from pathlib import Path

import msgspec
import pytest

from infra.runtime.kafka import free_ports
from infra.runtime.network import RegionNetwork, unavailable
from services.console.cli import ConsoleUp
from services.console.shapes import Told
from services.region import deploy
from tests.support.poll import wait_until

REASON = unavailable()
SITES = ("east", "west", "north")
CONTROLLER = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503); self.end_headers(); self.wfile.write(b'{"detail": "said inside"}')
http.server.HTTPServer((sys.argv[1], int(sys.argv[2])), Answer).serve_forever()
"""


@pytest.mark.integration
@pytest.mark.skipif(REASON is not None, reason=f"no network namespaces here: {REASON}")
def test_the_page_is_outside_and_the_regions_are_inside(tmp_path: Path) -> None:
    """The command becomes itself inside with its listening socket, which stays in the machine's own network."""
    network = RegionNetwork.create(SITES, tmp_path)
    try:
        planned = deploy.plan_deployment(
            SITES[:2], "north", base_port=9300, directory=tmp_path, network="namespaces", deployment_id="d"
        )
        deployment = deploy.with_holder(planned, network.holder_pid)
        deployment.save()
        east = deployment.site("east")
        inside = network.command("east", [sys.executable, "-c", CONTROLLER, east.host, str(east.port("control"))])
        (port,) = free_ports(1)
        words = ["console", "--data-dir", str(tmp_path), "--port", str(port), "--json"]
        with (
            subprocess.Popen(inside, stderr=subprocess.DEVNULL) as controller,
            subprocess.Popen([sys.executable, "-m", "services.cli", *words], stdout=subprocess.PIPE) as console,
        ):
            try:
                assert console.stdout is not None
                url = msgspec.json.decode(console.stdout.readline(), type=ConsoleUp).url
                assert url == f"http://127.0.0.1:{port}/"

                def hears() -> bool:
                    with urllib.request.urlopen(f"{url}v1/state", timeout=5) as answer:
                        told = msgspec.json.decode(answer.read(), type=Told)
                    return "said inside" in told.picture.regions[0].heard

                wait_until(hears, 20, "the console to hear a controller inside")
            finally:
                console.terminate()
                controller.terminate()
            assert console.wait(10) == 0
    finally:
        network.close()
