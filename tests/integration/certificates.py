"""A certificate authority for the tests: signs, revokes, and says what it has revoked.  All by the openssl program."""

import os
import subprocess

CONFIG = """
[ca]
default_ca = ours
[ours]
database = {directory}/index
crlnumber = {directory}/crlnumber
certificate = {directory}/ca.crt
private_key = {directory}/ca.key
default_md = sha256
default_crl_days = 30
"""


def openssl(*arguments, text=None):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, input=text, text=True).stdout


class Authority:
    def __init__(self, directory, name="ca"):
        self.directory = os.path.join(str(directory), name)
        os.mkdir(self.directory)
        self.ca_file = self._path("ca.crt")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                "-subj", f"/CN={name} of the tests", "-keyout", self._path("ca.key"), "-out", self.ca_file)
        for file, text in (("index", ""), ("index.attr", "unique_subject = no\n"), ("crlnumber", "01\n"),
                           ("conf", CONFIG.format(directory=self.directory))):
            with open(self._path(file), "w") as out:
                out.write(text)

    def _path(self, file):
        return os.path.join(self.directory, file)

    def sign(self, name, file=None, algorithm=("ec", "-pkeyopt", "ec_paramgen_curve:P-256")):
        """A certificate whose common name is `name`; returns the paths of it and of its key."""
        stem = self._path(file or name)
        openssl("req", "-newkey", *algorithm, "-nodes", "-subj", f"/CN={name}", "-keyout", stem + ".key",
                "-out", stem + ".csr")
        extensions = stem + ".ext"
        with open(extensions, "w") as out:
            out.write(f"subjectAltName = DNS:{name},IP:127.0.0.1\n")
        openssl("x509", "-req", "-in", stem + ".csr", "-CA", self.ca_file, "-CAkey", self._path("ca.key"),
                "-CAcreateserial", "-days", "30", "-extfile", extensions, "-out", stem + ".crt")
        os.chmod(stem + ".key", 0o600)
        return stem + ".crt", stem + ".key"

    def revoke(self, *certificates):
        """Returns the path of a list that names them."""
        for certificate in certificates:
            openssl("ca", "-config", self._path("conf"), "-revoke", certificate)
        openssl("ca", "-config", self._path("conf"), "-gencrl", "-out", self._path("crl"))
        return self._path("crl")
