extension Row {
    /// What an engine does with a container over its life.
    static let lives: [Row] = [
        Row("create, start, restart, rm", .life, short: [.docker]) { s in
            try await s.ok("create --name one @ sh -c 'echo run; sleep 1000'")
            try await s.ok("inspect -f {{.State.Running}} one", "false")
            try await s.ok("start one")
            try await s.ok("inspect -f {{.State.Running}} one", "true")
            try await s.ok("restart -t 0 one")
            try await s.becomes("logs one", "run\nrun")
            try await s.ok("rm -f one")
            try await s.ok("ps -aq", "")
        },
        Row("start -a shows what it says", .life) { s in
            try await s.ok("create --name one @ sh -c 'echo again; exit 4'")
            try await s.ends("start -a one", 4, "again")
            try await s.ends("start -a one", 4, "again")
        },
        Row("ps tells name, state and command", .life) { s in
            try await s.ok("run -d --name one @ sleep 1000")
            try await s.ok("ps --format '{{.Names}} {{.Image}}'", has: "one localhost/box")
            try await s.ok("inspect -f {{.State.Status}} one", "running")
        },
        Row("files stay over a stop", .life) { s in
            try await s.ok("run --name one @ sh -c 'cat /kept 2>/dev/null; echo kept >/kept'")
            try await s.ok("start -a one", "kept")
        },
        Row("healthcheck turns healthy", .health, on: [.docker]) { s in
            try await s.ok(
                "run -d --name one --health-cmd 'test -e /well' --health-interval 1s --health-retries 1 @ sh -c 'sleep 3; touch /well; sleep 1000'"
            )
            try await s.becomes("inspect -f {{.State.Health.Status}} one", "unhealthy")
            try await s.becomes("inspect -f {{.State.Health.Status}} one", "healthy")
        },
        Row("healthcheck run tells", .health, on: [.podman]) { s in
            try await s.ok("run -d --name one --health-cmd 'test -e /well' --health-interval disable @ sleep 1000")
            try await s.fails("healthcheck run one")
            try await s.ok("exec one touch /well")
            try await s.ok("healthcheck run one")
        },
        Row("on-failure:2 tries three times", .restart, short: [.docker]) { s in
            try await s.ok("run -d --name one --restart on-failure:2 @ sh -c 'echo try; exit 3'")
            try await s.becomes("logs one", "try\ntry\ntry")
            try await s.becomes("inspect -f '{{.State.Status}} {{.State.ExitCode}}' one", "exited 3")
        },
        Row("always brings a killed one back", .restart) { s in
            try await s.ok("run -d --name one --restart always @ sh -c 'echo up; sleep 1000'")
            let pid = try await s.ok("inspect -f {{.State.Pid}} one")
            try await s.host("kill -9 \(pid)")
            try await s.becomes("logs one", "up\nup")
        },
        Row("logs keep both streams", .logs, short: [.docker]) { s in
            try await s.ok("run --name one @ sh -c 'echo o1; echo e1 >&2; sleep 0.3; echo o2'", "o1\no2")
            let call = try await s.ends("logs one", 0, "o1\no2")
            try s.expect(call.errors == "e1", call.line, "e1 on standard error", call.errors)
            try await s.ok("logs --tail 1 one", "o2")
        },
        Row("logs -f follows to the end", .logs) { s in
            try await s.ok("run -d --name one @ sh -c 'for i in 1 2 3; do echo $i; sleep 0.4; done'")
            try await s.ok("logs -f one", "1\n2\n3")
        },
        Row("attach shows what comes and takes the code", .attach) { s in
            try await s.ok("run -d --name one @ sh -c 'sleep 2; echo attached; exit 6'")
            let code: Int32 = s.engine.kind == .docker ? 6 : 0  // Podman 4.3 takes no code
            try await s.ends("attach --no-stdin one", code, "attached")
            try await s.ok("inspect -f {{.State.ExitCode}} one", "6")
        },
        Row("attach gives standard input", .attach) { s in
            try await s.ok("run -d -i --name one @ sh -c 'read line; echo \"got $line\"; exit 2'")
            try await s.shell("(sleep 0.5; echo words; sleep 1) | $C attach one; true", "got words")
            try await s.ok("inspect -f {{.State.ExitCode}} one", "2")
        },
        Row("wait ends with the code", .wait, short: [.docker]) { s in
            try await s.ok("run -d --name one @ sh -c 'sleep 1; exit 42'")
            try await s.ok("wait one", "42")
        },
        Row("rename leaves it running", .rename) { s in
            try await s.ok("run -d --name one @ sleep 1000")
            try await s.ok("rename one two")
            try await s.ok("exec two echo still", "still")
        },
        Row("events tell its life", .events) { s in
            let since = try await s.shell("date +%s")
            try await s.ok("run --name one @ true")
            let range =
                s.engine.kind == .docker
                ? "--since \(since) --until $(date +%s) --filter container=one" : "--stream=false --since \(since)"
            let text = try await s.shell("sleep 1; $C events \(range) --format '{{.Status}}'")
            for word in ["create", "start", "die"] {
                try s.expect(text.contains(word) || (word == "die" && text.contains("died")), "events", word, text)
            }
        },
        Row("build runs its steps", .build, short: [.docker]) { s in
            _ = try s.file(
                "Dockerfile",
                """
                FROM \(Bench.image)
                RUN echo built >/built && id -u >/who
                USER app
                WORKDIR /home/app
                RUN id -u >who
                COPY given /given
                CMD cat /built /who who /given

                """)
            _ = try s.file("given", "copied\n")
            try await s.ok("build -q -t localhost/built \(s.scratch)", seconds: 120)
            try await s.ok("run --rm localhost/built", "built\n0\n1000\ncopied")
            try await s.ok("rmi -f localhost/built")
        },
        Row("a build's failing step fails it", .build) { s in
            _ = try s.file("Dockerfile", "FROM \(Bench.image)\nRUN echo so far; exit 9\n")
            try await s.fails("build -t localhost/broken \(s.scratch)", says: "9")
        },
        Row("compose up, exec and down", .compose, on: [.docker]) { s in
            _ = try s.file(
                "docker-compose.yml",
                """
                version: "3"
                services:
                  server: {image: \(Bench.image), command: [sh, -c, "mkdir /w; echo composed >/w/index.html; httpd -f -h /w"]}
                  client: {image: \(Bench.image), command: [sleep, "1000"], depends_on: [server], volumes: ["./ask.sh:/ask.sh"]}

                """)
            _ = try s.file(
                "ask.sh",
                "for i in 1 2 3 4 5 6; do printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 server 80 | grep composed && break; sleep 0.5; done\n"
            )
            let compose = "cd $S; export DOCKER_HOST=unix:///run/docker.sock; docker-compose -p trial"
            try await s.shell("\(compose) up -d 2>&1", seconds: 120)
            try await s.shell("\(compose) exec -T client sh /ask.sh", "composed")
            try await s.shell("\(compose) down -t 0 2>&1")
            try await s.ok("ps -aq", "")
        },
        Row("the runtime by its name", .hull, on: [.docker], short: [.docker], machineOnly: true) { s in
            try await s.ok("run --rm --runtime hull @ echo named", "named")
            let (inside, outside) = (
                try await s.ok("run --rm @ cat /proc/sys/kernel/random/boot_id"),
                try await s.host("cat /proc/sys/kernel/random/boot_id")
            )
            try s.expect(inside != outside, "boot_id", "another kernel's", inside)
        },
    ]
}
