"""What processes say of themselves as long as they live: a text under a name, for a while by the server's clock."""

from bebr.store.redis.client import Argument, RedisClient, Script
from bebr.store.redis.keys import Keys


class Announcements:
    """Those of one store. They are hints, which nobody waits for replicas of."""

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self._client, self._keys = client, keys
        self._script = Script.load("announce.lua")

    async def say(self, name: str, text: str, seconds: float) -> dict[str, str]:
        """What everyone says, this one included. name "": only that. text "": it is taken back."""
        arguments: list[Argument] = [name, text, max(1, round(seconds * 1000))]
        found: list[bytes] = await self._client.run(
            self._script, [self._keys.announced], arguments, changes=False, check=False, past_maxmemory=True
        )
        names, texts = found[::2], found[1::2]
        return dict(sorted((raw.decode(), said.decode()) for raw, said in zip(names, texts, strict=True)))
