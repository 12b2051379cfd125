# Serve an exported model. In the folder of the project:
#
#     vaelab export runs/demo --out model.onnx
#     docker build --tag vaelab-serve .
#     printf '%s' "$TOKEN" > token
#     docker run --read-only --publish 8000:8000 --volume "$PWD/model.onnx:/model.onnx:ro" --volume "$PWD/token:/token:ro" vaelab-serve
#
# PyTorch is installed as a dependency of vaelab, in its CPU build, but not imported.
FROM python:3.12-slim

COPY . /source
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
        --constraint /source/constraints.txt "/source[serve]" \
    && rm -rf /source \
    && useradd --create-home --uid 10001 vaelab

USER vaelab
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["vaelab", "serve"]
CMD ["/model.onnx", "--host", "0.0.0.0", "--port", "8000", "--token-file", "/token"]
