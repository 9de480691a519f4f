/* Between a half and the process that started it. */
#ifndef TRANSCRIPT_H
#define TRANSCRIPT_H

#define RECORD_NOTE 'n'
#define RECORD_FAILURE 'f'
#define RECORD_SKIP 's'
#define EXIT_STOPPED 3

extern char doing_now[128];

#endif
