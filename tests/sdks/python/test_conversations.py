"""Spoken conversations with the parrot, through the client of today and the beta client."""

import base64
import signal

import pytest

from talk import RATE, Talk, of
from sound import silence, tone

SERVER_VAD = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 300}
TOOL = {
    "type": "function",
    "name": "weather",
    "description": "What it is like outside",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}


@pytest.fixture(autouse=True)
def patience():
    """The package waits for ever; a test does not."""
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture(params=["ga", "beta"])
def talk(request):
    talk = Talk(request.param)
    yield talk
    talk.close()


def test_the_session_is_complete(talk):
    session = talk.session.to_dict()
    assert session["id"].startswith("sess_")
    assert session["object"] == "realtime.session"
    assert session["model"] == "gpt-realtime"
    updated = talk.update(
        instructions="be kind", voice="verse", tools=[TOOL], transcription={"model": "whisper-1"}, turn_detection=SERVER_VAD
    ).to_dict()
    assert updated["instructions"] == "be kind"
    assert updated["tools"] == [TOOL]
    assert updated["tool_choice"] == "auto"
    if talk.beta:
        assert updated["voice"] == "verse"
        assert updated["turn_detection"]["silence_duration_ms"] == 300
        assert updated["input_audio_transcription"] == {"model": "whisper-1"}
        assert updated["max_response_output_tokens"] == "inf"
        assert of(talk.seen, "conversation.created")[0].conversation.object == "realtime.conversation"
    else:
        assert updated["type"] == "realtime"
        assert updated["audio"]["output"]["voice"] == "verse"
        assert updated["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 300
        assert updated["audio"]["input"]["transcription"] == {"model": "whisper-1"}
        assert updated["max_output_tokens"] == "inf"
        assert updated["truncation"] == "auto"


def test_speech_is_noticed_and_answered_with_itself(talk):
    talk.update(turn_detection=SERVER_VAD, transcription={"model": "whisper-1"})
    said = silence(400, RATE) + tone(1000, RATE) + silence(800, RATE)
    talk.speak(said)
    started = talk.event("input_audio_buffer.speech_started")
    stopped = talk.event("input_audio_buffer.speech_stopped")
    assert started.audio_start_ms < 400 < 1300 < stopped.audio_end_ms
    committed = talk.event("input_audio_buffer.committed")
    assert started.item_id == stopped.item_id == committed.item_id
    assert talk.event("conversation.item.added").item.id == committed.item_id
    start = len(talk.seen)
    audio, words, response = talk.answer()
    heard = of(talk.seen[start:], "conversation.item.input_audio_transcription.completed")
    assert heard[0].item_id == committed.item_id
    assert heard[0].transcript == words
    assert heard[0].usage.type == "duration"
    assert response.status == "completed"
    assert words.startswith("heard 1.")
    assert tone(1000, RATE) in audio, "the utterance comes back whole"
    assert audio in said, "and nothing else does"
    item = response.output[0]
    assert item.role == "assistant"
    assert item.content[0].type == ("audio" if talk.beta else "output_audio")
    assert item.content[0].transcript == words
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert {limit.name for limit in talk.event("rate_limits.updated").rate_limits} == {"requests", "tokens"}


def test_manual_turns_come_back_byte_for_byte(talk):
    talk.update(turn_detection=None)
    said = tone(730, RATE)
    talk.speak(said)
    talk.connection.input_audio_buffer.commit()
    talk.event("input_audio_buffer.committed")
    talk.connection.response.create()
    audio, words, response = talk.answer()
    assert audio == said
    assert words == "heard 0.73 s"
    deltas = of(talk.seen, talk.name("response.output_audio.delta"))
    assert {len(base64.b64decode(delta.delta)) for delta in deltas[:-1]} == {RATE // 10 * 2}, "100 ms each"
    assert {(delta.response_id, delta.item_id) for delta in deltas} == {(response.id, response.output[0].id)}
    talk.speak(said)
    talk.connection.input_audio_buffer.clear()
    talk.event("input_audio_buffer.cleared")
    talk.connection.input_audio_buffer.commit()
    assert talk.event("error").error.code == "input_audio_buffer_commit_empty"


def test_a_text_is_answered_aloud_or_in_writing(talk):
    item = talk.text("good morning")
    assert item.content[0].text == "good morning"
    talk.connection.response.create()
    audio, words, response = talk.answer()
    assert words == "good morning"
    assert len(audio) > RATE // 5
    talk.text("in writing, please")
    field = "modalities" if talk.beta else "output_modalities"
    talk.connection.response.create(response={field: ["text"], "metadata": {"turn": "2"}, "instructions": "short"})
    start = len(talk.seen)
    done = talk.event("response.done").response
    deltas = of(talk.seen[start:], talk.name("response.output_text.delta"))
    assert "".join(delta.delta for delta in deltas) == "in writing, please"
    assert done.output[0].content[0].type == ("text" if talk.beta else "output_text")
    assert done.metadata == {"turn": "2"}


def test_speech_interrupts_an_answer_and_what_was_not_heard_is_cut_off(talk):
    talk.update(turn_detection=SERVER_VAD)
    talk.speak(tone(3000, RATE) + silence(800, RATE))
    first = talk.event("response.output_audio.delta")
    talk.speak(tone(600, RATE))
    talk.event("input_audio_buffer.speech_started")
    done = talk.event("response.done").response
    assert done.id == first.response_id
    assert done.status == "cancelled"
    assert done.status_details.reason == "turn_detected"
    assert done.output[0].status == "incomplete"
    talk.connection.conversation.item.truncate(item_id=first.item_id, content_index=0, audio_end_ms=50)
    cut = talk.event("conversation.item.truncated")
    assert (cut.item_id, cut.audio_end_ms) == (first.item_id, 50)
    talk.connection.conversation.item.truncate(item_id=first.item_id, content_index=0, audio_end_ms=60000)
    assert "already shorter" in talk.event("error").error.message
    talk.speak(silence(800, RATE))
    audio, _, response = talk.answer()
    assert response.status == "completed"
    assert tone(600, RATE) in audio


def test_a_client_cancels_an_answer(talk):
    talk.text("one two three four five six seven eight nine ten")
    talk.connection.response.create()
    created = talk.event("response.created").response
    talk.event("response.output_audio.delta")
    talk.connection.response.create()
    assert talk.event("error").error.code == "conversation_already_has_active_response"
    talk.connection.response.cancel(response_id=created.id)
    done = talk.event("response.done").response
    assert (done.id, done.status, done.status_details.reason) == (created.id, "cancelled", "client_cancelled")
    talk.connection.response.cancel(event_id="late")
    error = talk.event("error").error
    assert (error.code, error.event_id) == ("response_cancel_not_active", "late")


def test_a_tool_is_called_where_it_has_to_be(talk):
    talk.text("Bergen")
    choice = "required" if talk.beta else {"type": "function", "name": "weather"}
    talk.connection.response.create(response={"tools": [TOOL], "tool_choice": choice})
    done = talk.event("response.function_call_arguments.done")
    assert done.arguments == '{"place":"Bergen"}'
    call = talk.event("response.done").response.output[0]
    assert (call.type, call.name, call.call_id) == ("function_call", "weather", done.call_id)


def test_items_are_made_shown_and_deleted(talk):
    call = {"id": "call1", "type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"}
    talk.connection.conversation.item.create(item=call)
    assert talk.event("conversation.item.added").item.name == "weather"
    output = {"id": "out1", "type": "function_call_output", "call_id": "c", "output": "it rains"}
    talk.connection.conversation.item.create(item=output, previous_item_id="call1")
    added = talk.event("conversation.item.added")
    assert (added.item.output, added.previous_item_id) == ("it rains", "call1")
    talk.connection.response.create()
    assert talk.answer()[1] == "it rains"
    talk.connection.conversation.item.retrieve(item_id="call1")
    assert talk.event("conversation.item.retrieved").item.call_id == "c"
    talk.connection.conversation.item.delete(item_id="call1")
    assert talk.event("conversation.item.deleted").item_id == "call1"
    talk.connection.conversation.item.retrieve(item_id="call1", event_id="gone")
    error = talk.event("error").error
    assert (error.type, error.code, error.event_id) == (
        "invalid_request_error",
        "item_retrieve_invalid_item_id",
        "gone",
    )


def test_a_mistake_in_the_session_is_named(talk):
    bad = {"input_audio_noise_reduction": {"type": "loud"}} if talk.beta else {
        "type": "realtime", "audio": {"input": {"noise_reduction": {"type": "loud"}}}
    }
    talk.connection.session.update(session=bad, event_id="mine")
    error = talk.event("error").error
    assert (error.type, error.code, error.event_id) == ("invalid_request_error", "invalid_value", "mine")
    assert error.param.startswith("session.") and error.param.endswith("noise_reduction.type")


def test_an_answer_out_of_band(talk):
    kept = talk.text("keep this")
    start = len(talk.seen)
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "aside"}]}
    talk.connection.response.create(response={"conversation": "none", "input": [item], "metadata": {"topic": "x"}})
    _, words, response = talk.answer()
    assert (words, response.conversation_id, response.metadata) == ("aside", None, {"topic": "x"})
    assert not of(talk.seen[start:], talk.name("conversation.item.added"))
    talk.connection.response.create()
    added = talk.event("conversation.item.added")
    assert added.previous_item_id == kept.id
    assert talk.answer()[1] == "keep this"


def test_both_clients_share_a_room():
    query = {"session_id": "both-dialects"}
    ga, beta = Talk("ga", query=query), Talk("beta", query=query)
    ga.update(turn_detection=None)
    said = tone(400, RATE)
    ga.speak(said)
    ga.connection.input_audio_buffer.commit()
    ga.connection.response.create()
    assert ga.answer()[0] == said
    assert beta.answer()[0] == said
    ga.close()
    beta.close()


def test_an_engine_may_be_named_as_the_model():
    echo = Talk("ga", model="echo")
    said = tone(100, RATE)
    echo.speak(said)
    assert base64.b64decode(echo.event("response.output_audio.delta").delta) == said
    echo.close()
