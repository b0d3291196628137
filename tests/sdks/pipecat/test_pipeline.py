"""Pipecat's OpenAI realtime service, unchanged, in a pipeline of its own: speech goes in, the parrot's answer comes out."""

import asyncio
import os
import sys
from pathlib import Path

from pipecat.frames.frames import (
    EndFrame,
    InputAudioRawFrame,
    LLMFullResponseEndFrame,
    ProposedUserStartedSpeakingFrame,
    StartFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.openai.realtime import events
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.workers.runner import WorkerRunner

sys.path.append(str(Path(__file__).resolve().parents[2] / "python"))
from sound import silence, tone  # noqa: E402

RATE = 24000
PATIENCE_S = 60


class Ears(FrameProcessor):
    """Keeps what comes by."""

    def __init__(self):
        super().__init__()
        self.frames = []
        self.arrived = asyncio.Event()

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        self.frames.append(frame)
        self.arrived.set()
        await self.push_frame(frame, direction)

    def of(self, kind):
        return [frame for frame in self.frames if isinstance(frame, kind)]

    async def until(self, check):
        while not check():
            self.arrived.clear()
            await self.arrived.wait()


async def converse():
    turn_detection = events.TurnDetection(silence_duration_ms=300)
    transcription = events.InputAudioTranscription(model="whisper-1")
    audio = events.AudioConfiguration(
        input=events.AudioInput(transcription=transcription, turn_detection=turn_detection)
    )
    llm = OpenAIRealtimeLLMService(
        api_key=os.environ.get("VOXHALL_TOKEN", "sk-anything"),
        base_url=os.environ["VOXHALL_URL"] + "/v1/realtime",
        settings=OpenAIRealtimeLLMService.Settings(
            model="gpt-realtime", session_properties=events.SessionProperties(instructions="be kind", audio=audio)
        ),
    )
    ears = Ears()
    params = PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=RATE)
    worker = PipelineWorker(Pipeline([llm, ears]), params=params)

    async def speak(pcm):
        for at in range(0, len(pcm), RATE // 10 * 2):
            chunk = pcm[at : at + RATE // 10 * 2]
            await worker.queue_frame(InputAudioRawFrame(audio=chunk, sample_rate=RATE, num_channels=1))

    def heard():
        return b"".join(frame.audio for frame in ears.of(TTSAudioRawFrame))

    async def script():
        await ears.until(lambda: ears.of(StartFrame))
        said = silence(400, RATE) + tone(1000, RATE) + silence(800, RATE)
        await speak(said)
        await ears.until(lambda: ears.of(TTSStoppedFrame))
        assert tone(1000, RATE) in heard(), "the utterance comes back whole"
        assert heard() in said, "and nothing else does"
        words = "".join(frame.text for frame in ears.of(TTSTextFrame))
        assert words.startswith("heard 1."), words
        ears.frames.clear()
        await speak(tone(3000, RATE) + silence(800, RATE))
        await ears.until(lambda: ears.of(TTSAudioRawFrame))
        await speak(tone(600, RATE))
        await ears.until(lambda: len(ears.of(ProposedUserStartedSpeakingFrame)) == 2)
        await ears.until(lambda: ears.of(LLMFullResponseEndFrame))
        ears.frames.clear()
        await speak(silence(800, RATE))
        await ears.until(lambda: ears.of(TTSStoppedFrame))
        assert tone(600, RATE) in heard(), "what interrupted is answered"
        await worker.queue_frame(EndFrame())

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await asyncio.gather(runner.run(), script())


def test_a_pipeline_holds_a_spoken_conversation():
    asyncio.run(asyncio.wait_for(converse(), PATIENCE_S))
