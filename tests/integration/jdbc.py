"""Compiles and runs the tests' JDBC clients (drivers/*.java)."""

import os
import subprocess

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
JDBC_JAR = "/usr/share/java/postgresql.jar"


def compiled(have, directory, name):
    """The command that runs it; the sources are UTF-8 whatever the locale says."""
    if not os.path.exists(JDBC_JAR):
        pytest.skip("PostgreSQL's JDBC driver is not installed")
    subprocess.run([have("javac"), "-encoding", "UTF-8", "-cp", JDBC_JAR, "-d", directory,
                    os.path.join(HERE, f"drivers/{name}.java")],
                   check=True, capture_output=True)
    return [have("java"), "-XX:TieredStopAtLevel=1", "-cp", ":".join([str(directory), JDBC_JAR, "/usr/share/java/*"]),
            name]
