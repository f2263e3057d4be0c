"""What Tidings knows and how it decides: pure functions over the Protobuf messages. No clock, no Kafka, no HTTP, no logging, no random."""
