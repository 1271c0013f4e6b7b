/*
 * The least that a sandbox of one's own can cost: clone, mount overlay and proc, pivot_root, exec, wait. No seccomp, no
 * second user namespace, no /dev, nothing made or removed on disk.
 *
 *   bare run OPTIONS POINT COMMAND…     OPTIONS are the overlay's, names relative to the working folder
 *   bare without DIR COMMAND…           runs a command where what is mounted on DIR is not (crun 1.8 on hybrid hosts)
 *   bare pause                          the payload of the memory measurement: sleeps for 0.4 s
 *   bare                                the payload of the time measurement: /bin/true
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(int failed, const char *what)
{
    if (failed) {
        perror(what);
        exit(125);
    }
}

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    check(fd < 0 || write(fd, text, strlen(text)) < 0, path);
    close(fd);
}

static int run(char **args)
{
    int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET, user = geteuid() != 0, ready[2];
    check(pipe2(ready, O_CLOEXEC), "pipe");
    if (user)
        flags |= CLONE_NEWUSER;
    int uid = geteuid(), gid = getegid();
    int pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    check(pid < 0, "clone");
    if (pid == 0) {
        char path[4096], map[64];
        if (user) {
            put("/proc/self/setgroups", "deny");
            snprintf(map, sizeof map, "0 %d 1", uid);
            put("/proc/self/uid_map", map);
            snprintf(map, sizeof map, "0 %d 1", gid);
            put("/proc/self/gid_map", map);
        }
        check(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0), "detach");
        check(mount("overlay", args[1], "overlay", 0, args[0]), "mount overlay");
        snprintf(path, sizeof path, "%s/proc", args[1]);
        check(mount("proc", path, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0), "mount proc");
        check(chdir(args[1]) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH), "pivot_root");
        execv(args[2], args + 2);
        check(1, args[2]);
    }
    int status;
    check(waitpid(pid, &status, 0) != pid, "wait");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
    if (argc > 4 && !strcmp(argv[1], "run"))
        return run(argv + 2);
    if (argc > 3 && !strcmp(argv[1], "without")) {
        check(unshare(CLONE_NEWNS) || mount(0, "/", 0, MS_REC | MS_PRIVATE, 0), "unshare");
        umount2(argv[2], MNT_DETACH);
        execvp(argv[3], argv + 3);
        check(1, argv[3]);
    }
    if (strstr(argv[0], "pause"))
        usleep(400000);
    return 0;
}
