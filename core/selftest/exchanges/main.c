/* exchanges list [--json]
 * exchanges run NAMES|all --role client|server|both ...: see usage. */
#include "apart.h"
#include "exchange.h"
#include "run.h"
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern const struct exchange basic_exchanges[], duplex_exchanges[], waiting_exchanges[], flag_exchanges[], option_exchanges[], query_exchanges[];
extern const struct exchange vector_exchanges[], thread_exchanges[], receiver_exchanges[], signal_exchanges[], uring_exchanges[], order_exchanges[];
/* How connections begin and end, and who shares them. */
extern const struct exchange closing_exchanges[], shutdown_exchanges[], sharing_exchanges[], splicing_exchanges[], file_exchanges[];
extern const struct exchange stall_exchanges[], dying_exchanges[], timeout_exchanges[], many_exchanges[], reuse_exchanges[];
extern const struct exchange beginning_exchanges[], layer_exchanges[], toggling_exchanges[], memory_exchanges[], fault_exchanges[];

static const struct exchange *const tables[] = {
    basic_exchanges,   duplex_exchanges,    waiting_exchanges, flag_exchanges,	   option_exchanges, query_exchanges,	vector_exchanges,
    thread_exchanges,  receiver_exchanges,  signal_exchanges,  uring_exchanges,	   order_exchanges,  closing_exchanges, shutdown_exchanges,
    sharing_exchanges, splicing_exchanges,  file_exchanges,    stall_exchanges,	   dying_exchanges,  timeout_exchanges, many_exchanges,
    reuse_exchanges,   beginning_exchanges, layer_exchanges,   toggling_exchanges, memory_exchanges, fault_exchanges,
};

static const char usage[] =
    "exchanges list [--json]\n"
    "exchanges run NAME[,NAME...]|all --role server --listen ADDR:PORT --control PATH [options]\n"
    "exchanges run NAME[,NAME...]|all --role client --connect ADDR:PORT --control PATH [--bind ADDR] [options]\n"
    "exchanges run NAME[,NAME...]|all --role both [--listen ADDR:PORT] [--connect ADDR:PORT] [options]\n"
    "options, the same for both halves: --only-fast --slow --repeat N --timeout SECONDS --seed N --scale N --connections N --bound BYTES\n"
    "--warm MILLISECONDS --gate --part N "
    "and --client-uid UID --server-uid UID\n";

static noreturn void refuse(const char *what, const char *value)
{
	fprintf(stderr, "exchanges: %s%s%s\n%s", what, value ? " " : "", value ? value : "", usage);
	exit(2);
}

/* The name of an exchange's difference; it begins a line of its transcript, after "difference ". */
static const char *differs_in(unsigned flags)
{
	static const char *const names[] = {"urgent",	"close-unread", "more",	  "trunc",     "control",   "empty",
					    "zerocopy", "fault",	"mapped", "low-water", "disconnect"}; /* in the order of the flags */

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (flags & (unsigned)EX_DIFFERS_URGENT << i)
			return names[i];
	return "";
}

static void list(bool json)
{
	const char *separator = "";

	for (size_t table = 0; table < sizeof tables / sizeof *tables; table++)
		for (const struct exchange *each = tables[table]; each->name; each++) {
			const char *differs = differs_in(each->flags);

			if (!json) {
				printf("%-28s %s\n", each->name, each->title);
				continue;
			}
			printf("%s{\"name\":\"%s\",\"title\":\"%s\",\"fast\":%s,\"slow\":%s,\"blocking\":%s,\"ownStart\":%s,\"differs\":\"%s\"}",
			       *separator ? separator : "[", each->name, each->title, each->flags & EX_FAST ? "true" : "false",
			       each->flags & EX_SLOW ? "true" : "false", each->flags & EX_BLOCKING ? "true" : "false",
			       each->flags & EX_OWN_START ? "true" : "false", differs);
			separator = ",\n";
		}
	if (json)
		printf("]\n");
}

/* Whether the name is one of the words of a list with commas. */
static bool named(const char *list, const char *name)
{
	size_t length = strlen(name);

	for (const char *word = list; word; word = strchr(word, ',')) {
		word += *word == ',';
		if (strncmp(word, name, length) == 0 && (word[length] == ',' || word[length] == 0))
			return true;
	}
	return false;
}

static const struct exchange *find(const char *name, size_t length)
{
	for (size_t table = 0; table < sizeof tables / sizeof *tables; table++)
		for (const struct exchange *each = tables[table]; each->name; each++)
			if (strlen(each->name) == length && strncmp(each->name, name, length) == 0)
				return each;
	return NULL;
}

static void refuse_unknown(const char *names)
{
	for (const char *word = names; word; word = strchr(word, ',')) {
		word += *word == ',';
		if (find(word, strcspn(word, ",")))
			continue;
		fprintf(stderr, "exchanges: no exchange is named '%.*s'; `exchanges list` shows them\n", (int)strcspn(word, ","), word);
		exit(2);
	}
}

static uint64_t number(const char *text)
{
	char *end;

	errno = 0;
	uint64_t value = strtoull(text, &end, 0);
	if (errno || *end || end == text || *text == '-')
		refuse("not a number:", text);
	return value;
}

struct choice {
	const char *names;
	bool only_fast, slow;
	unsigned repeat;
};

static void address_option(const char *text, struct address *to)
{
	if (!parse_address(text, to))
		refuse("not an address:", text);
}

static void role_option(struct runner *runner, const char *text)
{
	runner->roles[CLIENT] = strcmp(text, "server") != 0;
	runner->roles[SERVER] = strcmp(text, "client") != 0;
	if (runner->roles[CLIENT] && runner->roles[SERVER] && strcmp(text, "both") != 0)
		refuse("no role is named", text);
}

static void read_options(int count, char **words, struct runner *runner, struct choice *choice)
{
	static const struct option options[] = {
	    {"role", 1, 0, 'r'},      {"listen", 1, 0, 'l'},	 {"connect", 1, 0, 'c'},    {"bind", 1, 0, 'b'},   {"control", 1, 0, 'm'},
	    {"seed", 1, 0, 's'},      {"scale", 1, 0, 'S'},	 {"timeout", 1, 0, 't'},    {"repeat", 1, 0, 'R'}, {"connections", 1, 0, 'n'},
	    {"bound", 1, 0, 'B'},     {"client-uid", 1, 0, 'u'}, {"server-uid", 1, 0, 'U'}, {"warm", 1, 0, 'w'},   {"part", 1, 0, 'p'},
	    {"only-fast", 0, 0, 'f'}, {"slow", 0, 0, 'L'},	 {"gate", 0, 0, 'g'},	    {0, 0, 0, 0},
	};
	struct settings *settings = &runner->settings;

	for (int option; (option = getopt_long(count, words, "", options, NULL)) != -1;)
		switch (option) {
		case 'r':
			role_option(runner, optarg);
			break;
		case 'l':
			address_option(optarg, &settings->listen);
			break;
		case 'c':
			address_option(optarg, &settings->connect);
			break;
		case 'b':
			address_option(optarg, &settings->bind);
			break;
		case 'm':
			settings->control = optarg;
			break;
		case 's':
			settings->seed = number(optarg);
			break;
		case 'S':
			settings->scale = number(optarg);
			break;
		case 't':
			settings->timeout = number(optarg);
			break;
		case 'R':
			choice->repeat = number(optarg);
			break;
		case 'n':
			settings->connections = number(optarg);
			break;
		case 'B':
			settings->bound = number(optarg);
			break;
		case 'u':
			settings->uid[CLIENT] = number(optarg);
			break;
		case 'U':
			settings->uid[SERVER] = number(optarg);
			break;
		case 'p':
			settings->part = number(optarg);
			if (settings->part == 0)
				refuse("not a part:", optarg);
			break;
		case 'w':
			settings->warm = number(optarg);
			break;
		case 'g':
			settings->gate = true;
			break;
		case 'f':
			choice->only_fast = true;
			break;
		case 'L':
			choice->slow = true;
			break;
		default:
			refuse("what is wanted?", NULL);
		}
	if (optind < count)
		refuse("not understood:", words[optind]);
}

/* Opens what the roles need, and fills in what was not said. */
static void prepare(struct runner *runner)
{
	struct settings *settings = &runner->settings;
	bool both = runner->roles[CLIENT] && runner->roles[SERVER];

	if (!runner->roles[CLIENT] && !runner->roles[SERVER])
		refuse("--role is missing", NULL);
	if (both && settings->listen.length == 0)
		parse_address("127.0.0.1:0", &settings->listen);
	if (!both && !settings->control)
		refuse("--control is missing", NULL);
	if (runner->roles[SERVER]) {
		if (settings->listen.length == 0)
			refuse("--listen is missing", NULL);
		runner->listener = listen_at(&settings->listen);
		if (runner->listener < 0) {
			fprintf(stderr, "exchanges: cannot listen at the address of --listen: %s\n", strerror(errno));
			exit(2);
		}
	}
	if (both && settings->connect.length == 0) {
		settings->connect.length = sizeof settings->connect.address;
		getsockname(runner->listener, (struct sockaddr *)&settings->connect.address, &settings->connect.length);
	}
	if (runner->roles[CLIENT] && settings->connect.length == 0)
		refuse("--connect is missing", NULL);
	if (runner->roles[SERVER] && !both && (runner->control_listener = control_listen(settings->control)) < 0) {
		fprintf(stderr, "exchanges: cannot listen at %s: %s\n", settings->control, strerror(errno));
		exit(2);
	}
}

static bool run(struct runner *runner, const struct choice *choice)
{
	bool pass = true, all = strcmp(choice->names, "all") == 0;

	for (unsigned round = 0; round < choice->repeat; round++)
		for (size_t table = 0; table < sizeof tables / sizeof *tables; table++)
			for (const struct exchange *each = tables[table]; each->name; each++) {
				bool wanted = all ? choice->slow || !(each->flags & EX_SLOW) : named(choice->names, each->name);

				if (wanted && (!choice->only_fast || each->flags & EX_FAST))
					pass = run_exchange(runner, each) && pass;
			}
	return pass;
}

int main(int count, char **words)
{
	struct runner runner = {.listener = -1, .control_listener = -1};
	struct choice choice = {.repeat = 1};

	runner.settings =
	    (struct settings){.seed = 1, .scale = 1, .part = 1, .timeout = 10, .connections = 10000, .bound = 64 << 20, .uid = {-1, -1}};
	if (count < 2)
		refuse("what is wanted?", NULL);
	if (strcmp(words[1], "apart") == 0 && count > 2) {
		go_apart();
		count--;
		words++;
	}
	if (strcmp(words[1], "list") == 0) {
		list(count > 2 && strcmp(words[2], "--json") == 0);
		return 0;
	}
	if (strcmp(words[1], "run") != 0 || count < 3)
		refuse("what is wanted?", NULL);
	choice.names = words[2];
	if (strcmp(choice.names, "all") != 0)
		refuse_unknown(choice.names);
	read_options(count - 2, words + 2, &runner, &choice);
	prepare(&runner);
	bool pass = run(&runner, &choice);
	if (runner.control_listener >= 0)
		unlink(runner.settings.control);
	return pass ? 0 : 1;
}
