import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;

/** java Server PORT: an HTTP server on the socket that Java makes by itself, IPv6 for both families. It tells who asked, and at which address. */
public final class Server {
    public static void main(String[] arguments) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress(Integer.parseInt(arguments[0])), 0);
        server.createContext("/", exchange -> {
            exchange.getResponseHeaders().add("x-app-source", exchange.getRemoteAddress().getAddress().getHostAddress());
            exchange.getResponseHeaders().add("x-app-local", exchange.getLocalAddress().getAddress().getHostAddress());
            exchange.sendResponseHeaders(204, -1);
            exchange.close();
        });
        server.start();
        System.out.println("ready");
    }
}
