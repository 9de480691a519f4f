import com.sun.net.httpserver.HttpServer;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** java Exchange serve PORT DIRECTORY | client URL CLIENTS REQUESTS SIZE: files, POST /echo, and clients that compare what it sends back. */
public final class Exchange {
    public static void main(String[] words) throws Exception {
        if (words[0].equals("serve")) serve(Integer.parseInt(words[1]), Path.of(words[2]));
        else clients(words[1], Integer.parseInt(words[2]), Integer.parseInt(words[3]), Integer.parseInt(words[4]));
    }

    private static void serve(int port, Path directory) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress(port), 0);
        server.setExecutor(Executors.newFixedThreadPool(16));
        server.createContext("/echo", exchange -> {
            byte[] body = exchange.getRequestBody().readAllBytes();
            exchange.sendResponseHeaders(200, body.length);
            try (OutputStream out = exchange.getResponseBody()) {
                out.write(body);
            }
        });
        server.createContext("/", exchange -> {
            Path file = directory.resolve(Path.of(exchange.getRequestURI().getPath()).getFileName());
            exchange.sendResponseHeaders(200, Files.size(file));
            try (InputStream in = Files.newInputStream(file); OutputStream out = exchange.getResponseBody()) {
                in.transferTo(out);
            }
        });
        server.start();
    }

    private static void clients(String url, int clients, int requests, int size) throws Exception {
        HttpClient http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        ExecutorService threads = Executors.newFixedThreadPool(clients);
        List<Future<Integer>> counts = new ArrayList<>();
        for (int each = 0; each < clients; each++) {
            int number = each;
            counts.add(threads.submit(() -> client(http, URI.create(url + "/echo"), number, requests, size)));
        }
        int total = 0;
        for (Future<Integer> count : counts) total += count.get();
        System.out.println("requests " + total);
        System.exit(0);
    }

    private static int client(HttpClient http, URI uri, int number, int requests, int size) throws Exception {
        Random random = new Random(number);
        for (int round = 0; round < requests; round++) {
            byte[] body = new byte[random.nextInt(size) + 1];
            random.nextBytes(body);
            HttpRequest request = HttpRequest.newBuilder(uri).POST(HttpRequest.BodyPublishers.ofByteArray(body)).build();
            HttpResponse<byte[]> response = http.send(request, HttpResponse.BodyHandlers.ofByteArray());
            if (response.statusCode() != 200 || !Arrays.equals(response.body(), body))
                throw new Exception("client " + number + ", request " + round + ": status " + response.statusCode() + ", sent " + body.length
                        + " bytes and got others, " + response.body().length);
        }
        return requests;
    }
}
