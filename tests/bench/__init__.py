"""The benchmark: `make bench` measures Tidings and its peers on one Apache Kafka, in turn, each on a core of its own."""
