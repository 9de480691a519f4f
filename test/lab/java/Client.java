import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.DatagramPacket;
import java.net.DatagramSocket;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.SocketAddress;
import java.net.URI;
import java.net.URL;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.channels.DatagramChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Hashtable;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import javax.naming.directory.InitialDirContext;

/** What a Java program sees with sockets as Java makes them: java Client HTTP_HOST PORT DNS_SERVER NAME. Prints lines "WHAT KEY=VALUE ...". */
public final class Client {
    private interface Case {
        String run() throws Exception;
    }

    private static void print(String what, Case each) {
        try {
            System.out.println(what + " " + each.run());
        } catch (Exception error) {
            System.out.println(what + " error=" + error.toString().replace(' ', '_'));
        }
    }

    /** "6" when a socket with this local port is in the kernel's table for IPv6 sockets. */
    private static String family(String protocol, int port) throws Exception {
        String suffix = String.format(":%04X", port);
        List<String> lines = Files.readAllLines(Path.of("/proc/self/net/" + protocol + "6"));
        return lines.stream().anyMatch(line -> line.trim().split(" +")[1].endsWith(suffix)) ? "6" : "4";
    }

    private static String text(SocketAddress address) {
        InetSocketAddress known = (InetSocketAddress) address;
        return known.getAddress().getHostAddress() + "/" + known.getPort();
    }

    private static String headers(Map<String, List<String>> all) {
        Map<String, String> ours = new TreeMap<>();
        all.forEach((key, values) -> {
            if (key != null && key.toLowerCase().startsWith("x-")) ours.put(key.toLowerCase(), values.get(0));
        });
        StringBuilder told = new StringBuilder();
        ours.forEach((key, value) -> told.append(key).append('=').append(value).append(' '));
        return told.toString().trim();
    }

    private static String socket(String host, int port) throws Exception {
        try (Socket socket = new Socket(host, port)) {
            String ends = "remote=" + text(socket.getRemoteSocketAddress()) + " local=" + socket.getLocalAddress().getHostAddress();
            String family = " family=" + family("tcp", socket.getLocalPort());
            socket.getOutputStream().write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".getBytes(StandardCharsets.US_ASCII));
            BufferedReader reader = new BufferedReader(new InputStreamReader(socket.getInputStream()));
            StringBuilder told = new StringBuilder(ends + family);
            for (String line = reader.readLine(); line != null && !line.isEmpty(); line = reader.readLine())
                if (line.toLowerCase().startsWith("x-")) told.append(' ').append(line.replaceFirst(": ", "="));
            return told.toString();
        }
    }

    private static String channel(String host, int port) throws Exception {
        try (SocketChannel channel = SocketChannel.open(new InetSocketAddress(host, port))) {
            InetSocketAddress local = (InetSocketAddress) channel.getLocalAddress();
            return "remote=" + text(channel.getRemoteAddress()) + " local=" + local.getAddress().getHostAddress() + " family=" + family("tcp", local.getPort());
        }
    }

    private static String url(String url) throws Exception {
        HttpURLConnection connection = (HttpURLConnection) new URL(url).openConnection();
        connection.setConnectTimeout(5000);
        connection.setReadTimeout(5000);
        return "status=" + connection.getResponseCode() + " " + headers(connection.getHeaderFields());
    }

    private static String httpClient(String url) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(url)).build();
        HttpResponse<String> response = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        return "status=" + response.statusCode() + " " + headers(response.headers().map());
    }

    /** A query for TXT with one id. */
    private static byte[] query(String name) {
        ByteBuffer buffer = ByteBuffer.allocate(512);
        for (int word : new int[] {4660, 0x0100, 1, 0, 0, 0}) buffer.putShort((short) word);
        for (String label : name.split("\\.")) buffer.put((byte) label.length()).put(label.getBytes(StandardCharsets.US_ASCII));
        buffer.put((byte) 0).putShort((short) 16).putShort((short) 1);
        return Arrays.copyOf(buffer.array(), buffer.position());
    }

    /** The text of the answer's only record, which is the last thing in it. */
    private static String answer(byte[] data, int length, String name) {
        int start = query(name).length + 13;
        return new String(data, start, length - start, StandardCharsets.US_ASCII);
    }

    private static String datagram(String server, String name, boolean connect) throws Exception {
        try (DatagramSocket socket = new DatagramSocket()) {
            socket.setSoTimeout(5000);
            String family = family("udp", socket.getLocalPort());
            byte[] data = query(name);
            DatagramPacket packet = new DatagramPacket(data, data.length, InetAddress.getByName(server), 53);
            String ends = "";
            if (connect) {
                socket.connect(packet.getSocketAddress());
                ends = "remote=" + text(socket.getRemoteSocketAddress()) + " local=" + socket.getLocalAddress().getHostAddress() + " ";
            }
            socket.send(packet);
            DatagramPacket got = new DatagramPacket(new byte[512], 512);
            socket.receive(got); // Java drops what does not come from the peer of a connected socket
            return ends + "answerer=" + text(got.getSocketAddress()) + " family=" + family + " " + answer(got.getData(), got.getLength(), name);
        }
    }

    private static String datagramChannel(String server, String name, boolean connect) throws Exception {
        try (DatagramChannel channel = DatagramChannel.open()) {
            channel.socket().setSoTimeout(5000);
            InetSocketAddress to = new InetSocketAddress(server, 53);
            if (connect) channel.connect(to);
            ByteBuffer got = ByteBuffer.allocate(512);
            SocketAddress source = to;
            if (connect) {
                channel.write(ByteBuffer.wrap(query(name)));
                channel.read(got);
                source = channel.getRemoteAddress();
            } else {
                channel.send(ByteBuffer.wrap(query(name)), to);
                source = channel.receive(got);
            }
            return "answerer=" + text(source) + " " + answer(got.array(), got.position(), name);
        }
    }

    /** The DNS client that Java has itself. */
    private static String naming(String server, String name) throws Exception {
        Hashtable<String, String> environment = new Hashtable<>();
        environment.put("java.naming.factory.initial", "com.sun.jndi.dns.DnsContextFactory");
        environment.put("java.naming.provider.url", "dns://" + (server.contains(":") ? "[" + server + "]" : server) + "/");
        return new InitialDirContext(environment).getAttributes(name, new String[] {"TXT"}).get("TXT").get().toString().replace("\"", "");
    }

    public static void main(String[] arguments) {
        String host = arguments[0];
        int port = Integer.parseInt(arguments[1]);
        String server = arguments[2];
        String name = arguments[3];
        String url = "http://" + (host.contains(":") ? "[" + host + "]" : host) + ":" + port + "/";
        print("socket", () -> socket(host, port));
        print("channel", () -> channel(host, port));
        print("url", () -> url(url));
        print("client", () -> httpClient(url));
        print("datagram", () -> datagram(server, "datagram." + name, false));
        print("connectedDatagram", () -> datagram(server, "connected." + name, true));
        print("datagramChannel", () -> datagramChannel(server, "channel." + name, false));
        print("connectedChannel", () -> datagramChannel(server, "cchannel." + name, true));
        print("naming", () -> naming(server, "naming." + name));
        print("names", () -> {
            StringBuilder told = new StringBuilder();
            for (InetAddress each : InetAddress.getAllByName("lookup." + name)) told.append("address=").append(each.getHostAddress()).append(' ');
            return told.toString().trim();
        });
    }
}
