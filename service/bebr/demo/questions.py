"""Questions about the docstrings of this Python, and the docstrings that answer them: relevance judgments.

They were written from knowledge of the library, not from what a model finds. Names that this version of Python lacks
are left out.
"""

from collections.abc import Collection

_ANSWERS = """
turn a string into a date
    datetime.datetime.strptime datetime.date.fromisoformat datetime.datetime.fromisoformat
how many seconds passed between two moments
    datetime.timedelta.total_seconds
print a calendar of one month
    calendar.TextCalendar.prmonth calendar.TextCalendar.formatmonth
wait until a thread has finished
    threading.Thread.join
let only one thread at a time into a piece of code
    threading.RLock threading.Semaphore.acquire
run a function in another thread without blocking the event loop
    asyncio.threads.to_thread asyncio.base_events.BaseEventLoop.run_in_executor
wait for several coroutines at once
    asyncio.tasks.gather asyncio.tasks.wait asyncio.tasks.as_completed asyncio.taskgroups.TaskGroup
stop a task that takes too long
    asyncio.tasks.wait_for asyncio.timeouts.timeout asyncio.tasks.Task.cancel
start another program and read what it prints
    subprocess.check_output subprocess.run subprocess.getoutput subprocess.Popen.communicate
    subprocess.getstatusoutput
unpack a zip archive into a folder
    zipfile.ZipFile.extractall shutil.unpack_archive zipfile.ZipFile.extract
make a compressed tar file
    tarfile.TarFile.gzopen tarfile.TarFile.bz2open tarfile.TarFile.xzopen tarfile.TarFile.open
    shutil.make_archive
compress bytes in memory
    gzip.compress bz2.compress lzma.compress
find all files that match a pattern
    glob.glob glob.iglob pathlib.Path.glob pathlib.Path.rglob fnmatch.filter
remove a directory with everything in it
    shutil.rmtree
make a folder and all its parents
    os.makedirs pathlib.Path.mkdir
copy a file with its permissions
    shutil.copy shutil.copy2 shutil.copymode shutil.copystat
a temporary file that vanishes when it is closed
    tempfile.TemporaryFile tempfile.NamedTemporaryFile tempfile.SpooledTemporaryFile
the last part of a path
    pathlib.PurePath.name posixpath.basename ntpath.basename posixpath.split ntpath.split
does a file exist
    pathlib.Path.exists genericpath.exists genericpath.isfile pathlib.Path.is_file
the extension of a file name
    pathlib.PurePath.suffix posixpath.splitext ntpath.splitext pathlib.PurePath.suffixes
pick a random element from a list
    random.Random.choice random.Random.choices random.Random.sample secrets.choice
shuffle a list in place
    random.Random.shuffle
draw numbers from a bell curve
    random.Random.gauss random.Random.normalvariate statistics.NormalDist.samples
the middle value of some numbers
    statistics.median statistics.median_low statistics.median_high statistics.median_grouped
how much values spread around their mean
    statistics.stdev statistics.pstdev statistics.variance statistics.pvariance
turn bytes into base64 text
    base64.b64encode base64.standard_b64encode base64.encodebytes base64.urlsafe_b64encode
cryptographically strong random token
    secrets.token_hex secrets.token_bytes secrets.token_urlsafe secrets
send an e-mail over a server
    smtplib.SMTP.sendmail smtplib.SMTP.send_message smtplib.SMTP smtplib
download a file by FTP
    ftplib.FTP.retrbinary ftplib.FTP.retrlines ftplib.FTP
read mails from a mail server
    poplib.POP3 poplib.POP3.retr imaplib.IMAP4.fetch imaplib.IMAP4 imaplib poplib
open a web page in the user's browser
    webbrowser.open webbrowser.open_new webbrowser.open_new_tab
parse the arguments of the command line
    argparse argparse.ArgumentParser optparse.OptionParser.parse_args getopt.getopt getopt
read settings from an ini file
    configparser configparser.RawConfigParser.read configparser.RawConfigParser.read_file
    configparser.ConfigParser
type a password without showing it
    getpass getpass.unix_getpass getpass.win_getpass
pretty print a nested structure
    pprint pprint.pprint pprint.pp pprint.pformat
break a long paragraph into lines
    textwrap.wrap textwrap.fill textwrap.TextWrapper.wrap textwrap.TextWrapper.fill
show how two texts differ
    difflib.Differ difflib.unified_diff difflib.context_diff difflib.ndiff difflib.Differ.compare
    difflib.HtmlDiff
guess the type of a file from its name
    mimetypes.guess_type mimetypes.MimeTypes.guess_type mimetypes
split a command line like a shell does
    shlex.split shlex
remember the results of a function
    functools.lru_cache functools.cache
call a function with some arguments fixed
    functools.partial functools.partialmethod
find where to insert into a sorted list
    bisect.bisect_left bisect.bisect_right
the smallest items of a large list
    heapq.nsmallest
keep objects on disk like a dictionary
    shelve.open shelve shelve.Shelf shelve.DbfilenameShelf
order tasks by what they depend on
    graphlib.TopologicalSorter graphlib.TopologicalSorter.static_order
which functions take most of the time
    cProfile.Profile pstats.Stats cProfile profile
how long does a small piece of code take
    timeit timeit.Timer timeit.timeit timeit.Timer.timeit
where is memory allocated
    tracemalloc.get_object_traceback tracemalloc.take_snapshot tracemalloc.Snapshot.statistics
print the stack of an exception
    traceback.print_exc traceback.print_exception traceback.print_tb traceback.format_exception
    traceback.format_exc
get the source code of a function
    inspect.getsource inspect.getsourcelines
test the examples in documentation
    doctest doctest.testmod doctest.testfile doctest.DocTestSuite
draw a circle with a turtle
    turtle.TNavigator.circle
replace parts of a string
    str.replace str.translate
upper case the first letter of every word
    str.title string.capwords
remove blanks at both ends
    str.strip
join strings with a separator
    str.join
is every character a digit
    str.isdigit str.isdecimal str.isnumeric
add an element to the end of a list
    list.append
remove an entry of a dictionary and return it
    dict.pop dict.popitem
merge two dictionaries
    dict.update
save an object to a file and load it later
    pickle shelve.open plistlib.dump
compute a hash of some data
    hashlib hmac.HMAC.digest hmac.HMAC.hexdigest hashlib.file_digest
run code after a delay
    threading.Timer sched.scheduler.enter asyncio.base_events.BaseEventLoop.call_later
split a number into quotient and rest
    divmod
the largest of some values
    max
number the items while looping over them
    enumerate
walk over two lists side by side
    zip
is any of these true
    any
absolute value of a number
    abs decimal.Decimal.copy_abs decimal.Context.abs
ask the user for a line of text
    input
"""


def judged_questions(names: Collection[str]) -> dict[str, list[str]]:
    """Question -> those of `names` that answer it. Questions without an answer are left out."""
    found: dict[str, list[str]] = {}
    for line in _ANSWERS.strip().splitlines():
        if not line.startswith(" "):
            question = line
        else:
            found.setdefault(question, []).extend(name for name in line.split() if name in names)
    return {question: answers for question, answers in found.items() if answers}
