"""Client of Voxhall rooms: events and audio over WebSocket, and nothing missed."""

from .client import Client
from .clock import Clock
from .codec import Audio, Event
from .errors import Ended, QueueFull, VoxhallError

__all__ = ["Audio", "Client", "Clock", "Ended", "Event", "QueueFull", "VoxhallError"]
