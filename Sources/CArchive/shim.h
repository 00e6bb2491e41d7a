// The same view of the C library as every other C module of Hull has: two views cannot be imported together.
#include <archive.h>
#include <archive_entry.h>
// libarchive itself stands on nettle in Debian, so its SHA-2, which uses the processor's own instructions, costs nothing.
#include <nettle/sha2.h>
