// Java's HttpClient, which knows no extensions. java Client.java URL CORPUS IN_FLIGHT

import java.io.ByteArrayOutputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.Semaphore;

class Client implements WebSocket.Listener {
    final List<Object> corpus = new ArrayList<>();
    final Semaphore window;
    final CompletableFuture<Integer> closed = new CompletableFuture<>();
    final StringBuilder text = new StringBuilder();
    final ByteArrayOutputStream binary = new ByteArrayOutputStream();
    volatile int came;
    volatile int changed;

    Client(byte[] file, int inFlight) {
        window = new Semaphore(inFlight);
        ByteBuffer buffer = ByteBuffer.wrap(file);
        while (buffer.hasRemaining()) {
            boolean isText = buffer.get() == 1;
            byte[] data = new byte[buffer.getInt()];
            buffer.get(data);
            corpus.add(isText ? new String(data, StandardCharsets.UTF_8) : data);
        }
    }

    void got(Object message) {
        Object sent = corpus.get(came++);
        boolean same = sent instanceof byte[] bytes
            ? message instanceof byte[] back && Arrays.equals(bytes, back)
            : sent.equals(message);
        if (!same) {
            changed++;
        }
        window.release();
    }

    @Override
    public CompletionStage<?> onText(WebSocket socket, CharSequence data, boolean last) {
        text.append(data);
        if (last) {
            got(text.toString());
            text.setLength(0);
        }
        socket.request(1);
        return null;
    }

    @Override
    public CompletionStage<?> onBinary(WebSocket socket, ByteBuffer data, boolean last) {
        byte[] part = new byte[data.remaining()];
        data.get(part);
        binary.writeBytes(part);
        if (last) {
            got(binary.toByteArray());
            binary.reset();
        }
        socket.request(1);
        return null;
    }

    @Override
    public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
        closed.complete(code);
        window.release(corpus.size());
        return null;
    }

    @Override
    public void onError(WebSocket socket, Throwable error) {
        closed.complete(1006);
        window.release(corpus.size());
    }

    public static void main(String[] args) throws Exception {
        int inFlight = Integer.parseInt(args[2]);
        Client client = new Client(Files.readAllBytes(Path.of(args[1])), inFlight);
        WebSocket socket = HttpClient.newHttpClient().newWebSocketBuilder().buildAsync(URI.create(args[0]), client).join();
        long started = System.nanoTime();
        for (Object message : client.corpus) {
            client.window.acquire();
            if (client.closed.isDone()) {
                break;
            }
            if (message instanceof byte[] bytes) {
                socket.sendBinary(ByteBuffer.wrap(bytes), true).join();
            } else {
                socket.sendText((String) message, true).join();
            }
        }
        client.window.acquire(inFlight);
        if (!client.closed.isDone()) {
            socket.sendClose(1000, "").join();
        }
        int code = client.closed.join();
        System.out.printf(
            "{\"version\": \"%s\", \"extensions\": \"\", \"came\": %d, \"changed\": %d, \"seconds\": %.3f, \"close\": %d}%n",
            System.getProperty("java.version"), client.came, client.changed, (System.nanoTime() - started) / 1e9, code);
        System.exit(0);
    }
}
