%% Erlang/OTP as a peer of the benchmark, called by ../src/peers/setups.rs and ../src/peers/native.rs:
%%   port PROGRAM ARG...   a supervisor with one child that runs PROGRAM through a port; runs until killed
%%   native ROUNDS         a supervisor with processes of Erlang alone: prints "one US" for each restart of
%%                         one process, "all US" for each of a hundred under one_for_all
-module(refrain_bench).
-behaviour(supervisor).
-export([port/1, native/1, init/1, start_port/1, run_port/1, start_native/2, run_native/2]).

-define(HUNDRED, 100).

port(Command) ->
    quiet(),
    {ok, _} = supervisor:start_link(?MODULE, {one_for_one, [{port, {?MODULE, start_port, [Command]}}]}),
    receive never -> ok end.

native([Rounds]) ->
    quiet(),
    process_flag(trap_exit, true),
    Each = list_to_integer(Rounds),
    rounds("one", 1, Each),
    rounds("all", ?HUNDRED, max(1, Each div 10)),
    halt(0).

quiet() ->
    logger:set_primary_config(level, none).

%% No delay, and as many restarts as there are: the shortest that OTP has.
init({Strategy, Children}) ->
    Specs = [#{id => Id, start => Start, shutdown => brutal_kill} || {Id, Start} <- Children],
    {ok, {#{strategy => Strategy, intensity => 1000000000, period => 1}, Specs}}.

start_port(Command) ->
    proc_lib:start_link(?MODULE, run_port, [Command]).

run_port([Program | Args]) ->
    Port = open_port({spawn_executable, Program}, [{args, Args}, exit_status]),
    proc_lib:init_ack({ok, self()}),
    receive {Port, {exit_status, _}} -> exit(ended) end.

start_native(Number, Watcher) ->
    proc_lib:start_link(?MODULE, run_native, [Number, Watcher]).

run_native(Number, Watcher) ->
    Watcher ! {began, Number, self(), now_ns()},
    proc_lib:init_ack({ok, self()}),
    receive crash -> Watcher ! {crashed, now_ns()}, erlang:error(crash) end.

now_ns() ->
    erlang:monotonic_time(nanosecond).

rounds(Name, Number, Rounds) ->
    Children = [{N, {?MODULE, start_native, [N, self()]}} || N <- lists:seq(1, Number)],
    {ok, Supervisor} = supervisor:start_link(?MODULE, {one_for_all, Children}),
    {First, _} = began(Number, none, 0),
    Samples = crash(Number, First, Rounds, []),
    [io:format("~s ~.3f~n", [Name, Sample / 1000]) || Sample <- Samples],
    exit(Supervisor, shutdown),
    receive {'EXIT', Supervisor, _} -> ok end.

%% Printed afterwards: who prints in between lets the others fall asleep.
crash(_, _, 0, Samples) ->
    Samples;
crash(Number, First, Rounds, Samples) ->
    First ! crash,
    From = receive {crashed, Time} -> Time end,
    {Next, Last} = began(Number, none, 0),
    crash(Number, Next, Rounds - 1, [Last - From | Samples]).

%% Until so many have begun: the first child, and when the last of them began.
began(0, First, Last) ->
    {First, Last};
began(Left, First, Last) ->
    receive
        {began, 1, Pid, Time} -> began(Left - 1, Pid, max_time(Last, Time));
        {began, _, _, Time} -> began(Left - 1, First, max_time(Last, Time))
    end.

%% Monotonic time is negative in most machines.
max_time(0, Time) -> Time;
max_time(Last, Time) -> max(Last, Time).
