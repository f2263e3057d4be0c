// Kafka Streams as its documentation has it: group by key, aggregate into a store "users" that has a changelog. One thread, one core.
package tidings.bench;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.google.protobuf.InvalidProtocolBufferException;
import com.sun.management.OperatingSystemMXBean;
import java.io.File;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.state.KeyValueStore;
import tidings.bench.Bench.UserEvent;
import tidings.bench.Bench.UserState;

/** Arguments: the processing guarantee; the bytes of the record cache, or "default"; the file of the assignment. */
public final class StatePerUser {
    private static final ObjectMapper JSON = new ObjectMapper();

    // Written by the one stream thread, read once the latch is down.
    private static long handled;
    private static long beganNanos;
    private static long beganCpuNanos;

    public static void main(String[] arguments) throws Exception {
        JsonNode run = JSON.readTree(new File(arguments[2]));
        long events = run.get("events").asLong();
        CountDownLatch allHandled = new CountDownLatch(1);

        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(run.get("topic").asText(), Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
            .groupByKey(Grouped.with(Serdes.ByteArray(), Serdes.ByteArray()))
            .aggregate(
                () -> null,
                (user, event, state) -> {
                    if (handled++ == 0) {
                        beganNanos = System.nanoTime();
                        beganCpuNanos = cpuNanos();
                    }
                    byte[] changed = apply(state, event);
                    if (handled == events) {
                        allHandled.countDown();
                    }
                    return changed;
                },
                Materialized.<byte[], byte[], KeyValueStore<Bytes, byte[]>>as("users")
                    .withKeySerde(Serdes.ByteArray())
                    .withValueSerde(Serdes.ByteArray()));

        KafkaStreams streams = new KafkaStreams(builder.build(), settings(run, arguments[0], arguments[1]));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.start();
        allHandled.await();
        long lastNanos = System.nanoTime();
        streams.close(Duration.ofMinutes(1)); // flushes the cache and the changelog, and commits
        double seconds = (System.nanoTime() - beganNanos) / 1e9;
        double cpuSeconds = (cpuNanos() - beganCpuNanos) / 1e9;
        report(run, seconds, cpuSeconds, (System.nanoTime() - lastNanos) / 1e9);
        Runtime.getRuntime().halt(0);
    }

    /** The same few lines as in every system; Python reckons in doubles too. */
    private static byte[] apply(byte[] stored, byte[] value) {
        try {
            UserEvent event = UserEvent.parseFrom(value);
            UserState.Builder state = stored == null ? UserState.newBuilder() : UserState.parseFrom(stored).toBuilder();
            state.setCount(state.getCount() + 1);
            state.setLastOccurredAtMs(event.getOccurredAtMs());
            state.setScore((float) (state.getScore() * 0.9 + event.getWeight()));
            return state.build().toByteArray();
        } catch (InvalidProtocolBufferException error) {
            throw new IllegalArgumentException(error);
        }
    }

    private static Properties settings(JsonNode run, String guarantee, String cacheBytes) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, run.get("name").asText());
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, run.get("bootstrap_servers").asText());
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, guarantee);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, run.get("data_dir").asText());
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1); // there is one broker
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        if (run.get("session_seconds").asInt() > 0) {
            settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG), run.get("session_seconds").asInt() * 1000);
            settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.HEARTBEAT_INTERVAL_MS_CONFIG), 1000);
        }
        if (!cacheBytes.equals("default")) {
            settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, Long.parseLong(cacheBytes));
        }
        return settings;
    }

    private static void report(JsonNode run, double seconds, double cpuSeconds, double closeSeconds) throws Exception {
        ObjectNode report = JSON.createObjectNode();
        report.put("events", handled).put("seconds", seconds).put("cpu_seconds", cpuSeconds).put("peak_rss_bytes", peakRssBytes());
        report.putObject("extra").put("close_seconds", closeSeconds); // part of the seconds above
        ObjectNode positions = report.putObject("positions");
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", run.get("bootstrap_servers").asText()))) {
            Map<TopicPartition, OffsetAndMetadata> committed =
                admin.listConsumerGroupOffsets(run.get("name").asText()).partitionsToOffsetAndMetadata().get();
            committed.forEach((partition, offset) -> positions.put(String.valueOf(partition.partition()), offset.offset()));
        }
        System.out.println("RESULT " + JSON.writeValueAsString(report));
        System.out.flush();
    }

    private static long cpuNanos() {
        return ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }

    private static long peakRssBytes() throws Exception {
        return Files.readAllLines(Path.of("/proc/self/status")).stream()
            .filter(line -> line.startsWith("VmHWM:"))
            .mapToLong(line -> Long.parseLong(line.replaceAll("\\D", "")) * 1024)
            .findFirst()
            .orElse(0);
    }
}
