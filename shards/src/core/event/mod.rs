//! The vocabulary: what clients say and what the server says, in the names of the OpenAI Realtime API (GA).
