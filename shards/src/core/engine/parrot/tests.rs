//! What PROTOCOL 10 says of the parrot, sentence by sentence.
