"""The adapter for Apache Kafka: `config` (address and security), `forwarder` (journal to topic), `source` (topic to
indexer), `topics` (make and check a topic), `errors` (the one seam to the vendor's exceptions), `client` (thread, loop,
connections).

Needs the extra `kafka` (aiokafka with its codecs); only `config` can be imported without it.
"""
