"""Asks the resolver, explains where it refuses, and prints the answer."""
import traceback


def changes(graph):
    """Returns whether the resolver could only go on by changing the configuration."""
    state = graph._dynamic_config
    return any(package in state.digraph for package in state._needed_use_config_changes)


def explained(config, atoms, spinner, said):
    """Returns what stands in the way; as the package manager's own words where nothing else is known."""
    found = []
    try:
        found = explain(config, atoms, spinner)
    except Exception:  # an interface that another version has changed: what Portage says is still worth telling
        traceback.print_exc(file=sys.__stderr__)
    return found or [{"kind": "refused", "message": said.getvalue()[-2000:]}]


def of_build_side(problems, home):
    """Takes from problems of which root they are; returns the numbers of those that are not about this one."""
    return [at for at, problem in enumerate(problems) if problem.pop("root", home) != home]


def plan(atoms):
    _, options, _ = parse_opts([*OPTIONS.split(), *atoms], silent=True)
    config = load_emerge_config(action=None, args=atoms, opts=options)
    adjust_configs(config.opts, config.trees)
    settings, portdb = config.target_config.settings, config.target_config.trees["porttree"].dbapi
    answer = {"version": VERSION, "portage": str(portage.VERSION), "ok": False, "packages": [], "edges": []}
    if not settings.profile_path or not settings.get("ARCH"):
        link = os.path.join(settings["PORTAGE_CONFIGROOT"], "etc/portage/make.profile")
        answer["problems"] = [{"kind": "profile", "path": os.path.realpath(link)}]
        return answer
    spinner = stdout_spinner()
    spinner.update = lambda *_, **__: True
    parameters = create_depgraph_params(config.opts, None)
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        ok, graph, _ = backtrack_depgraph(settings, config.trees, config.opts, parameters, None, list(atoms), spinner)
        ok = bool(ok) and not changes(graph)
        root = settings["EROOT"]
        merge = [p for p in graph.altlist() if isinstance(p, Package) and p.root == root] if ok else []
        with contextlib.suppress(PortageException):  # what it has to say helps people only
            graph.display_problems()
        found = [] if ok else explained(config, atoms, spinner, said)
    answer["ok"], answer["problems"], answer["more"] = ok, found[:MOST], len(found[MOST:])
    answer["of_build_side"] = of_build_side(answer["problems"], root)
    answer["said"] = said.getvalue()[-8000:]
    answer["env"] = common = environment(settings)
    answer["bashrcs"] = [f for f in (os.path.join(p, "profile.bashrc") for p in settings.profiles) if os.path.exists(f)]
    answer["packages"] = [describe(settings, portdb, package, common) for package in merge]
    answer["edges"] = edges(graph._dynamic_config.digraph, root) if ok else []
    answer["tools"] = tools(graph._dynamic_config.digraph, root) if ok else []
    return answer


try:
    result = plan(sys.argv[1:])
except CorruptionKeyError as e:
    result = {"version": VERSION, "ok": False, "problems": [{"kind": "unreadable", "cpv": e.value}]}
except PortageException as e:
    problem = {"kind": "refused", "message": f"{type(e).__name__}: {e}"[:2000]}
    result = {"version": VERSION, "ok": False, "problems": [problem]}
json.dump(result, answers, separators=(",", ":"))
answers.close()
