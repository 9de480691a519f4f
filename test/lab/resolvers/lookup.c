/* getaddrinfo of each name, as this program's C library does it: lines "NAME ADDRESS" or "NAME !ERROR". */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *all = NULL;
		int error = getaddrinfo(argv[i], NULL, &hints, &all);
		if (error)
			printf("%s !%s\n", argv[i], gai_strerror(error));
		for (struct addrinfo *each = error ? NULL : all; each; each = each->ai_next) {
			char text[INET6_ADDRSTRLEN];
			const void *address = each->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)each->ai_addr)->sin_addr :
									   (void *)&((struct sockaddr_in6 *)each->ai_addr)->sin6_addr;
			printf("%s %s\n", argv[i], inet_ntop(each->ai_family, address, text, sizeof(text)));
		}
		if (!error)
			freeaddrinfo(all);
	}
	return 0;
}
