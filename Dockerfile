# One image for all of Runfolio. By default it runs everything, with the embedded PostgreSQL in /data:
#   docker run -p 8000:8000 -v runfolio:/data -e PUBLIC_URL=http://localhost:8000 IMAGE
# With DATABASE_URL, SECRET_KEY and PUBLIC_URL set, run as many as needed of each instead:
#   docker run … IMAGE gunicorn project.wsgi --bind=0.0.0.0:8000 --worker-class=gthread --threads=32
#   docker run … IMAGE python manage.py worker
FROM python:3.12-slim

RUN useradd --system --create-home runfolio && install -d -o runfolio -m 0700 /data
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir --require-hashes -r requirements.txt
COPY manage.py gunicorn.conf.py ./
COPY project project
COPY runs runs
COPY templates templates
COPY static static
COPY docs docs
COPY samples samples

USER runfolio
ENV PYTHONUNBUFFERED=1 HOST=0.0.0.0 PORT=8000 RUNFOLIO_DATA=/data
VOLUME /data
EXPOSE 8000
CMD ["python", "manage.py", "up"]
